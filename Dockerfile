# The system on a CPU: `docker build -t supersnn .`, then
# `docker run --rm -v supersnn:/store supersnn sweep configs/digits.yaml`.
ARG BASE=python:3.11-slim
FROM ${BASE} AS build
COPY pyproject.toml README.md supersnn_cli.py /source/
COPY supersnn /source/supersnn
COPY tune /source/tune
COPY analysis /source/analysis
RUN python -m venv /opt/supersnn \
    && /opt/supersnn/bin/pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu torch torchvision \
    && /opt/supersnn/bin/pip install --no-cache-dir /source

FROM ${BASE}
LABEL org.opencontainers.image.title="supersnn" \
      org.opencontainers.image.description="Search for spiking networks taught by artificial ones"
COPY --from=build /opt/supersnn /opt/supersnn
COPY configs /home/supersnn/configs
RUN useradd --uid 1000 --create-home supersnn && mkdir /store /data && chown supersnn /store /data
ENV PATH=/opt/supersnn/bin:$PATH SUPERSNN_STORE=/store SUPERSNN_DATA=/data
USER supersnn
WORKDIR /home/supersnn
VOLUME ["/store", "/data"]
ENTRYPOINT ["supersnn"]
CMD ["--help"]
