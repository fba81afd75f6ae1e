# docker build -t finetune-bench .                             CPU
# docker build -t finetune-bench --build-arg DEVICE=cuda .     PyTorch with CUDA
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS wheel
WORKDIR /build
COPY . .
RUN python -m pip wheel --no-deps --wheel-dir dist .

FROM python:${PYTHON}-slim
ARG DEVICE=cpu
ARG EXTRAS=all
ENV FINETUNE_BENCH_CACHE=/cache HOME=/tmp PIP_NO_CACHE_DIR=1
WORKDIR /install
COPY --from=wheel /build/dist dist
COPY constraints.txt .
# PyTorch's own index has wheels without CUDA, which are smaller by gigabytes.
RUN case "$DEVICE" in \
      cpu) index="--extra-index-url https://download.pytorch.org/whl/cpu" ;; \
      cuda) index="" ;; \
      *) echo "DEVICE must be cpu or cuda, not $DEVICE" >&2; exit 2 ;; \
    esac && \
    python -m pip install -c constraints.txt $index "$(echo dist/*.whl)[$EXTRAS]"
# Any user may write the cache: docker run --user "$(id -u):$(id -g)".
RUN install -d -m 777 "$FINETUNE_BENCH_CACHE" && finetune-bench --version
WORKDIR /work
ENTRYPOINT ["finetune-bench"]
CMD ["--help"]
