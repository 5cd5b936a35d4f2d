# raytrade with everything it needs. One image serves every role: a node's labels say what runs on it.
#
#   docker build --tag raytrade .
#   docker run --rm --shm-size=1g raytrade demo
#   docker run --rm --shm-size=1g --volume "$PWD:/data" raytrade run /data/pipeline.yaml
FROM python:3.11-slim

RUN useradd --create-home raytrade
COPY pyproject.toml README.md LICENSE /src/
COPY raytrade /src/raytrade
RUN pip install --no-cache-dir /src && rm -r /src

USER raytrade
WORKDIR /home/raytrade
# Lets Ctrl-C drain the pipeline as it does without a container.
STOPSIGNAL SIGINT
ENTRYPOINT ["raytrade"]
CMD ["--help"]
