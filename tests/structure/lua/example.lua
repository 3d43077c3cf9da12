return {wall = wall, trace = trace, name = name, version = version, ttl_s = ttl_s, due_at = due_at, force = force,
  pairs = pairs, ages = ages, words = words}
