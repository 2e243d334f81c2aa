# CPU: `docker build --tag supersnn .`, then
# `docker run --rm --volume supersnn:/store supersnn sweep configs/digits.yaml`.
# GPU: `docker build --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 --tag supersnn:cuda .`;
# the CUDA libraries come with those wheels, so the base image stays the same.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY deploy/constraints.txt /source/deploy/
RUN python -m venv /opt/supersnn \
    && /opt/supersnn/bin/python -m pip install --no-cache-dir --no-deps --constraint /source/deploy/constraints.txt \
        --index-url "${TORCH_INDEX}" torch torchvision
COPY pyproject.toml README.md LICENSE /source/
COPY supersnn_cli /source/supersnn_cli
COPY supersnn /source/supersnn
COPY tune /source/tune
COPY analysis /source/analysis
RUN /opt/supersnn/bin/python -m pip install --no-cache-dir --constraint /source/deploy/constraints.txt \
        '/source[cluster,gpu]' \
    && /opt/supersnn/bin/python -m pip uninstall --yes pip \
    && find /opt/supersnn/lib -type d \( -name tests -o -path '*/torch/include' -o -path '*/ray/jars' \) -prune \
        -exec rm -rf {} +

# Compiled Python is kept: the user cannot write it later, and each process would spend seconds compiling again.
FROM ${BASE}
LABEL org.opencontainers.image.title="supersnn" \
      org.opencontainers.image.description="Distributed hyperparameter search for spiking neural networks" \
      org.opencontainers.image.licenses="Apache-2.0"
# Triton compiles its interface to the driver on the first use of a GPU, which needs a C compiler and headers; Ray's
# cluster launcher copies files into the container with rsync.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev rsync \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 1000 --create-home supersnn \
    && mkdir /store /data \
    && chown supersnn:supersnn /store /data \
    && ln -s /opt/supersnn/bin/supersnn /opt/supersnn/bin/ray /opt/supersnn/bin/mlflow /usr/local/bin/
COPY --from=build /opt/supersnn /opt/supersnn
COPY configs /home/supersnn/configs
ENV PATH=/opt/supersnn/bin:$PATH SUPERSNN_STORE=/store SUPERSNN_DATA=/data
USER 1000
WORKDIR /home/supersnn
VOLUME ["/store", "/data"]
ENTRYPOINT ["supersnn"]
CMD ["--help"]
