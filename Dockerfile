# The image of dtrain: Debian, Node's binary, the package and the pinned TensorFlow library; no Python, no npm, no compiler, nothing fetched at
# run time. Every step is a script in docker/, which test/consumers/container.test.ts runs by this file, without an engine.
#
#   docker build -t dtrain --target cpu .                      for the CPU
#   docker build -t dtrain:gpu --target gpu .                  with CUDA; the driver comes from NVIDIA's container toolkit (--gpus all)
#   docker run --rm -v "$PWD/runs:/workspace/runs" -v "$PWD/data:/workspace/data:ro" dtrain --config resnet20-fast --cpus 2
#
# Mounted folders must be writable for uid 10001 (runs) or readable (data). Everything else runs on a read-only root:
#   --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges
ARG NODE=22-bookworm-slim
ARG DEBIAN=bookworm-slim

# 1. Packages and build.
FROM node:${NODE} AS build
WORKDIR /app
COPY . .
RUN docker/build.sh && docker/package.sh . /package

# 2. The TensorFlow libraries, one a target.
FROM build AS python
RUN docker/packages.sh python3 python3-pip
FROM python AS library-cpu
RUN docker/library.sh cpu /opt/tensorflow
FROM python AS library-gpu
RUN docker/library.sh gpu /opt/tensorflow

# 3. What runs, without a library. tini is process 1: it reaps what an engine leaves behind and passes signals on.
FROM debian:${DEBIAN} AS base
LABEL org.opencontainers.image.title="dtrain" \
      org.opencontainers.image.description="Trains vision models on all the GPUs and cores of a machine" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY docker/packages.sh docker/user.sh /tmp/docker/
RUN /tmp/docker/packages.sh tini && /tmp/docker/user.sh && rm -r /tmp/docker
COPY --from=build /usr/local/bin/node /usr/local/bin/node
COPY --from=build /package /app
ENV DTRAIN_TENSORFLOW_LIB=/opt/tensorflow/tensorflow \
    DTRAIN_HOME=/cache \
    DTRAIN_HEARTBEAT=/tmp/dtrain-heartbeat
USER 10001:10001
WORKDIR /workspace
VOLUME ["/workspace/runs", "/workspace/data", "/cache"]
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --start-period=60s --retries=3 CMD ["/app/docker/health-check.sh", "60"]
ENTRYPOINT ["tini", "--", "node", "/app/dist/src/cli/main.js"]
CMD ["train", "--config", "quickstart"]

FROM base AS gpu
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=library-gpu /opt/tensorflow /opt/tensorflow

FROM base AS cpu
COPY --from=library-cpu /opt/tensorflow /opt/tensorflow
