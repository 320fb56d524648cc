# Builds both images from source. Where no image can be pulled, `scripts/image` makes the same two from a local binary.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked --target x86_64-unknown-linux-gnu \
 && cp target/x86_64-unknown-linux-gnu/release/baton /baton

# A replica needs nothing but the binary.
FROM scratch AS replica
COPY --from=build /baton /baton
ENTRYPOINT ["/baton"]
CMD ["server"]

# A worker needs a userland for the tasks.
FROM debian:bookworm-slim AS worker
COPY --from=build /baton /baton
RUN ln -s /baton /usr/local/bin/baton
ENTRYPOINT ["/baton"]
CMD ["worker"]
