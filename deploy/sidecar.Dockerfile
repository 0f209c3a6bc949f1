# The sidecar in a container: no torch, no weights, no web server. From the repository's root:
#
#   docker build -f deploy/sidecar.Dockerfile -t mmplane-sidecar .
#
# deploy/kubernetes-sidecar.yaml runs it beside an engine.

FROM python:3.12-slim AS build
RUN python -m venv /opt/mmplane
COPY pyproject.toml hatch_build.py constraints.txt README.md LICENSE /source/
COPY src /source/src
COPY deploy /source/deploy
COPY examples /source/examples
RUN /opt/mmplane/bin/pip install --no-cache-dir --constraint /source/constraints.txt "/source[media]"

FROM python:3.12-slim
COPY --from=build /opt/mmplane /opt/mmplane
RUN useradd --system --uid 10001 --create-home mmplane
USER 10001
STOPSIGNAL SIGTERM
ENTRYPOINT ["/opt/mmplane/bin/mmplane", "sidecar"]
CMD ["--help"]
