# The controller: decides and acts; it also runs report Jobs. No torch.
#   docker build -f images/controller.Dockerfile -t registry.example/potstill-controller:0.1.0 .
ARG BASE=docker.io/library/python:3.11.14-slim-bookworm

# What the lock pins for this image, and the project itself as a wheel.
FROM ${BASE} AS source
RUN python3 -m venv /opt/uv && /opt/uv/bin/pip install --no-cache-dir --quiet uv==0.13.9
COPY pyproject.toml uv.lock README.md LICENSE /source/
RUN cd /source && /opt/uv/bin/uv export --quiet --frozen --no-default-groups --extra ui --no-emit-project --output-file /wheel/requirements.txt
COPY controller /source/controller
COPY workloads /source/workloads
RUN /opt/uv/bin/uv build --quiet --system-certs --wheel --out-dir /wheel /source

# A layer that changes with the lock only, then a small one with the project.
FROM ${BASE}
COPY --from=source /wheel/requirements.txt /opt/potstill/requirements.txt
RUN --mount=type=bind,from=source,source=/opt/uv,target=/opt/uv --mount=type=cache,target=/root/.cache/uv \
    /opt/uv/bin/uv venv --quiet --allow-existing --python python3 /opt/potstill \
    && /opt/uv/bin/uv pip install --quiet --system-certs --no-deps --require-hashes --link-mode copy --compile-bytecode \
       --cache-dir /root/.cache/uv --python /opt/potstill/bin/python --requirement /opt/potstill/requirements.txt
COPY --from=source /wheel/*.whl /opt/potstill/
RUN --mount=type=bind,from=source,source=/opt/uv,target=/opt/uv \
    /opt/uv/bin/uv pip install --quiet --no-cache --no-deps --compile-bytecode --python /opt/potstill/bin/python /opt/potstill/*.whl
# Two arenas of malloc for all threads: with glibc's eight for each core, freed memory stays in the threads that used it.
# With fixed thresholds glibc returns more freed memory to the system: by default they grow, to 32 and 64 MiB at most.
ENV PATH=/opt/potstill/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/tmp PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HF_HUB_OFFLINE=1 \
    MALLOC_ARENA_MAX=2 MALLOC_MMAP_THRESHOLD_=65536 MALLOC_TRIM_THRESHOLD_=65536
USER 65532:65532
WORKDIR /tmp
ENTRYPOINT ["python", "-P", "-m"]
CMD ["controller.executors.kubernetes.serve"]
