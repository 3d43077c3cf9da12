"""Load, faults and checks of the chaos tool."""
