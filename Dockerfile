# The image of dtrain: the command, its packages and the pinned TensorFlow library; no Python, no compiler, nothing fetched at run time.
#
#   docker build -t dtrain .                                   for the CPU
#   docker build -t dtrain:gpu --build-arg VARIANT=gpu .       with CUDA; the driver comes from NVIDIA's container toolkit (--gpus all)
#   docker run --init --rm -v "$PWD/runs:/workspace/runs" -v "$PWD/data:/workspace/data:ro" dtrain --config resnet20-fast --cpus 2
#
# Mounted folders must be writable for uid 10001 (runs) or readable (data). Everything else runs on a read-only root:
#   --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges
ARG NODE=22-bookworm-slim

# 1. Packages and build; afterwards only what runs is left in node_modules.
FROM node:${NODE} AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci
COPY . .
RUN npm run build && npm prune --omit=dev

# 2. The TensorFlow library, by the same command that people use.
FROM build AS library
ARG VARIANT=cpu
RUN apt-get update && apt-get install -y --no-install-recommends python3 python3-pip && rm -rf /var/lib/apt/lists/*
RUN DTRAIN_HOME=/home-of-setup PIP_NO_CACHE_DIR=1 node dist/src/cli/main.js setup --${VARIANT} \
 && mv /home-of-setup/tensorflow/* /opt/tensorflow

# 3. What runs.
FROM node:${NODE}
LABEL org.opencontainers.image.title="dtrain" \
      org.opencontainers.image.description="Trains vision models on all the GPUs and cores of a machine" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=library /opt/tensorflow /opt/tensorflow
COPY --from=build /app/package.json /app/LICENSE /app/
COPY --from=build /app/node_modules /app/node_modules
COPY --from=build /app/configs /app/configs
COPY --from=build /app/dist/node_modules /app/dist/node_modules
COPY --from=build /app/dist/src /app/dist/src
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin dtrain \
 && install -d -o dtrain -g dtrain /workspace /workspace/runs /workspace/data /cache
ENV DTRAIN_TENSORFLOW_LIB=/opt/tensorflow/tensorflow \
    DTRAIN_HOME=/cache \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER dtrain
WORKDIR /workspace
VOLUME ["/workspace/runs", "/workspace/data", "/cache"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["node", "/app/dist/src/cli/main.js"]
CMD ["train", "--config", "quickstart"]
