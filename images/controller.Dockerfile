# The controller: decides and acts. No torch.
#   docker build -f images/controller.Dockerfile -t registry.example/potstill-controller:0.1.0 .
# The four Dockerfiles have the same steps; they differ in EXTRA, and in what Debian packages they need at run time.
ARG BASE=docker.io/library/python:3.11.14-slim-bookworm

FROM ${BASE} AS wheel
COPY pyproject.toml uv.lock README.md LICENSE* /source/
COPY controller /source/controller
COPY workloads /source/workloads
RUN python3 -m venv /opt/uv && /opt/uv/bin/pip install --no-cache-dir --quiet uv==0.13.9
RUN /opt/uv/bin/uv build --system-certs --quiet --wheel --out-dir /wheel /source

FROM ${BASE}
ENV PATH=/opt/potstill/bin:/usr/local/bin:/usr/bin:/bin \
    UV_PROJECT_ENVIRONMENT=/opt/potstill UV_PYTHON=python3 UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy \
    HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
COPY pyproject.toml uv.lock /opt/lock/
RUN --mount=type=cache,target=/root/.cache/uv --mount=type=bind,from=wheel,source=/opt/uv,target=/opt/uv \
    /opt/uv/bin/uv sync --system-certs --quiet --project /opt/lock --cache-dir /root/.cache/uv --frozen --no-default-groups --no-install-project
RUN --mount=type=bind,from=wheel,source=/opt/uv,target=/opt/uv --mount=type=bind,from=wheel,source=/wheel,target=/wheel \
    /opt/uv/bin/uv pip install --quiet --no-cache --no-deps --python /opt/potstill/bin/python /wheel/*.whl
USER 65532:65532
WORKDIR /tmp
ENTRYPOINT ["python", "-m"]
CMD ["controller"]
