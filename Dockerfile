# syntax=docker/dockerfile:1
# Two images from one file; see docs/packaging.md.
#   docker build --target cpu  -t firstline .
#   docker build --target cuda -t firstline:cuda --build-arg CUDA_COMPUTE_CAP=90 .
# Models, pack and state are mounted, never part of an image.

ARG RUST=1.95
ARG CUDA=13.0.2
ARG UBUNTU=24.04

# The program's sources and their crates, for both builds.
FROM rust:${RUST}-bookworm AS build-cpu
WORKDIR /src
COPY . .
# The cache outlives a build; what is kept is copied out of it.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked && \
    install -s target/release/firstline /usr/local/bin/firstline

FROM nvidia/cuda:${CUDA}-devel-ubuntu${UBUNTU} AS build-cuda
ARG RUST
# The compute capability of the card, without the dot: 80 (A100), 86 (A10, 3090), 89 (L4, 4090), 90 (H100, H200).
ARG CUDA_COMPUTE_CAP=80
ENV CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP} PATH=/root/.cargo/bin:${PATH}
RUN apt-get update && \
    apt-get install --yes --no-install-recommends build-essential ca-certificates curl git && \
    rm -rf /var/lib/apt/lists/* && \
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal --default-toolchain ${RUST}
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/root/.cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked --features cuda && \
    install -s target/release/firstline /usr/local/bin/firstline

FROM nvidia/cuda:${CUDA}-base-ubuntu${UBUNTU} AS cuda
# The program links cuBLAS and cuRAND besides the driver.
RUN apt-get update && \
    apt-get install --yes --no-install-recommends libcublas-13-0 libcurand-13-0 && \
    rm -rf /var/lib/apt/lists/* && \
    useradd --system --uid 10001 --home-dir /data firstline && \
    install -d -o firstline /data/state
COPY --from=build-cuda /usr/local/bin/firstline /usr/local/bin/firstline
COPY LICENSE packaging/THIRD-PARTY.md /usr/share/doc/firstline/
ENV FIRSTLINE_MODELS__DIR=/data/models FIRSTLINE_KNOWLEDGE__DIR=/data/kb FIRSTLINE_STORE__STATE_DIR=/data/state \
    FIRSTLINE_SERVER__HOST=0.0.0.0
USER firstline
WORKDIR /data
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["firstline"]
CMD ["serve"]

# The last one is what a plain `docker build .` makes.
FROM debian:bookworm-slim AS cpu
RUN apt-get update && \
    apt-get install --yes --no-install-recommends libstdc++6 && \
    rm -rf /var/lib/apt/lists/* && \
    useradd --system --uid 10001 --home-dir /data firstline && \
    install -d -o firstline /data/state
COPY --from=build-cpu /usr/local/bin/firstline /usr/local/bin/firstline
COPY LICENSE packaging/THIRD-PARTY.md /usr/share/doc/firstline/
ENV FIRSTLINE_MODELS__DIR=/data/models FIRSTLINE_KNOWLEDGE__DIR=/data/kb FIRSTLINE_STORE__STATE_DIR=/data/state \
    FIRSTLINE_SERVER__HOST=0.0.0.0
USER firstline
WORKDIR /data
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["firstline"]
CMD ["serve"]
