# Two images: "api" (also for migrate, courier and clerk; no torch) and "worker". Builds with engine 20.10 and newer.

FROM python:3.11-slim-bookworm AS base
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
# The folders of volumes belong to the user from the start: a new volume takes over their owner.
RUN useradd --uid 1000 --create-home inkqueue \
 && mkdir -p /var/lib/inkqueue/images /home/inkqueue/.cache/huggingface \
 && chown -R inkqueue:inkqueue /var/lib/inkqueue /home/inkqueue/.cache
WORKDIR /app
COPY pyproject.toml constraints.txt ./
# What an extra needs, by pyproject.toml; installed before the code is copied, so that a change of code is quick to build.
RUN printf '%s\n' 'import sys, tomllib' \
  'project = tomllib.load(open("/app/pyproject.toml", "rb"))["project"]' \
  'print(*project["dependencies"], *project["optional-dependencies"][sys.argv[1]], sep="\n")' \
  >/usr/local/bin/needs.py


FROM base AS api
RUN python /usr/local/bin/needs.py api >/tmp/needs && pip install --constraint constraints.txt --requirement /tmp/needs
COPY LICENSE README.md ./
COPY api api
COPY cli cli
COPY core core
COPY migrations migrations
COPY training training
COPY worker worker
RUN pip install --no-deps --editable .
USER inkqueue
EXPOSE 8080
CMD ["inkqueue", "api", "--host", "0.0.0.0"]


FROM base AS worker
# For an NVIDIA GPU: --build-arg TORCH_INDEX= (empty), which takes torch from pip's own index, with CUDA.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN torch=$(grep '^torch==' constraints.txt) \
 && { [ -n "$TORCH_INDEX" ] && pip install --no-deps --retries 1 --timeout 10 --index-url "$TORCH_INDEX" "$torch" \
   || pip install --constraint constraints.txt "$torch"; }
RUN python /usr/local/bin/needs.py worker >/tmp/needs && pip install --constraint constraints.txt --requirement /tmp/needs
COPY LICENSE README.md ./
COPY api api
COPY cli cli
COPY core core
COPY migrations migrations
COPY models models
COPY training training
COPY worker worker
RUN pip install --no-deps --editable .
USER inkqueue
CMD ["inkqueue", "worker"]
