FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY requirements requirements
COPY server server
COPY store store
COPY queue queue
COPY openapi openapi
# The locked releases, by hash: those that build the wheel in this stage, those that it needs in /opt/workyard.
RUN sed '/^# == test:/,$d' requirements/lock.txt >/build.txt \
 && sed '/^# == build:/,$d' requirements/lock.txt >/run.txt \
 && pip install --no-cache-dir --no-deps --require-hashes --requirement /build.txt \
 && pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels . \
 && python -m venv --without-pip /opt/workyard \
 && pip --python /opt/workyard/bin/python install --no-cache-dir --no-deps --require-hashes --requirement /run.txt \
 && pip --python /opt/workyard/bin/python install --no-cache-dir --no-deps --no-index /wheels/workyard-*.whl

FROM python:3.13-slim
RUN groupadd --gid 4010 workyard \
 && useradd --uid 4010 --gid workyard --no-create-home --shell /usr/sbin/nologin workyard
COPY --from=build /opt/workyard /opt/workyard
ENV PATH=/opt/workyard/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1
USER 4010:4010
EXPOSE 4010
# No curl in the slim image. A 503 raises, so the exit code says it all.
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s --retries=3 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:4010/_emulator/health', timeout=2)"]
ENTRYPOINT ["workyard"]
# All addresses of the container; publish the port on the host's loopback: -p 127.0.0.1:4010:4010
CMD ["serve", "--host", "0.0.0.0", "--i-know"]
