# Targets: `api` (also for migrate, courier and clerk; without torch) and `worker` (--build-arg DEVICE=cuda for NVIDIA).
# Builds with engine 20.10 and newer. What the images are made of: .dockerignore.

FROM python:3.11-slim-bookworm AS packages
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
RUN python -m venv --without-pip /opt/inkqueue
# What extras need, by pyproject.toml; a change of code installs nothing anew.
RUN printf '%s\n' 'import sys, tomllib' \
  'project = tomllib.load(open("pyproject.toml", "rb"))["project"]' \
  'extras = [project["optional-dependencies"][extra] for extra in sys.argv[1:]]' \
  'print(*project["dependencies"], *sum(extras, []), sep="\n")' >needs.py
COPY pyproject.toml constraints.txt ./


FROM packages AS api-packages
RUN python needs.py api >needs.txt && pip --python /opt/inkqueue/bin/python install --constraint constraints.txt --requirement needs.txt


FROM packages AS worker-packages
# pip's own index has torch with CUDA; for a CPU, torch's own index has one that is several GB smaller.
ARG DEVICE=cpu
RUN torch=$(grep '^torch==' constraints.txt); index=https://download.pytorch.org/whl/cpu; \
    case $DEVICE in cpu|cuda) ;; *) echo "DEVICE is cpu or cuda, not $DEVICE" >&2; exit 1;; esac; \
    { [ "$DEVICE" = cpu ] \
      && pip --python /opt/inkqueue/bin/python install --no-deps --retries 1 --timeout 10 --index-url $index "$torch"; } \
    || pip --python /opt/inkqueue/bin/python install --constraint constraints.txt "$torch"
RUN python needs.py worker $([ "$DEVICE" = cuda ] || echo openvino) >needs.txt \
 && pip --python /opt/inkqueue/bin/python install --constraint constraints.txt --requirement needs.txt


FROM python:3.11-slim-bookworm AS base
# Each process serves its metrics at 9100, for those in the same network; nothing is published by itself.
ENV PATH=/opt/inkqueue/bin:/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONPATH=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 INKQUEUE_METRICS_ADDRESS=0.0.0.0:9100
# The folders of volumes belong to the user from the start: a new volume takes over their owner.
RUN useradd --uid 1000 --create-home inkqueue \
 && mkdir -p /var/lib/inkqueue/images /var/lib/inkqueue/secrets /home/inkqueue/.cache/huggingface \
 && chmod 700 /var/lib/inkqueue/secrets \
 && chown -R inkqueue:inkqueue /var/lib/inkqueue /home/inkqueue/.cache \
 && printf '%s\n' '#!/opt/inkqueue/bin/python' 'from cli.main import app' 'app()' >/usr/local/bin/inkqueue \
 && chmod 755 /usr/local/bin/inkqueue
COPY deploy/answers.py /usr/local/bin/answers.py
WORKDIR /app
STOPSIGNAL SIGTERM


FROM base AS api
COPY --from=api-packages /opt/inkqueue /opt/inkqueue
COPY LICENSE README.md ./
COPY cli cli
COPY core core
COPY migrations migrations
COPY worker worker
COPY api api
RUN python -m compileall -q .
USER inkqueue
EXPOSE 8080
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s --retries=6 CMD ["python", "-SEI", "/usr/local/bin/answers.py", "8080", "/readyz"]
CMD ["inkqueue", "api", "--host", "0.0.0.0"]


FROM base AS worker
COPY --from=worker-packages /opt/inkqueue /opt/inkqueue
COPY models models
COPY LICENSE README.md ./
COPY cli cli
COPY core core
COPY migrations migrations
COPY worker worker
RUN python -m compileall -q .
USER inkqueue
# Its metrics are served once its models are loaded; a model of the hub may have to be fetched first.
HEALTHCHECK --interval=5s --timeout=5s --start-period=300s --retries=6 CMD ["python", "-SEI", "/usr/local/bin/answers.py", "9100", "/metrics"]
CMD ["inkqueue", "worker"]
