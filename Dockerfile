# Signalbox itself: `serve`, `work` and the other subcommands. What agents run in is deploy/agent.
#
#   docker build --tag signalbox .
#
# Behind a TLS-inspecting proxy, put its certificate into deploy/ca/ as NAME.crt first.

ARG RUST=rust:1-bookworm
ARG BASE=debian:bookworm-slim

FROM ${RUST} AS build
COPY deploy/ca/ /usr/local/share/ca-certificates/
RUN update-ca-certificates
ENV SQLX_OFFLINE=true CARGO_HTTP_CAINFO=/etc/ssl/certs/ca-certificates.crt
WORKDIR /signalbox
COPY . .
RUN cargo build --release --locked --bin signalbox

FROM ${BASE}
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
# The worker speaks to the model API, and trusts whom this machine trusts.
COPY deploy/ca/ /usr/local/share/ca-certificates/
RUN update-ca-certificates \
 && groupadd --gid 10001 signalbox \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin signalbox
COPY --from=build /signalbox/target/release/signalbox /usr/local/bin/signalbox
USER 10001:10001
ENTRYPOINT ["signalbox"]
