#!/bin/bash
# Everything that is to be known of a GPU, in at most 9 minutes: steps and inference in bfloat16 against torch.compile, checks, one table.
#
#   benchmarks/gpu.sh                on a machine with one H100 or H200, and jax, flax, optax, numpy, tokenizers, torch, transformers
#   SMALL=1 benchmarks/gpu.sh        the rehearsal: tiny models on the CPU, without torch.compile
#
# PYTHON names the interpreter. JSON files and the table go to $OUT (default runs/benchmarks/gpu). Each part has a time limit of its
# own; one that fails prints its last line, and the others go on.
cd "$(dirname "$0")/.." || exit
PYTHON=${PYTHON:-python3}
OUT=${OUT:-runs/benchmarks/gpu}
mkdir -p "$OUT"
export PYTHONUNBUFFERED=1 TF_CPP_MIN_LOG_LEVEL=3

if [ -n "$SMALL" ]; then
    export JAX_PLATFORMS=cpu
    SIZE="--small --rounds=1" PEERS=${PEERS:-none}
    TRAIN=${TRAIN:-bert-base-512,distilbert-teacher-128} INFERENCE=${INFERENCE:-bert-base-1x128}
else
    SIZE="--rounds=3 --seconds=0.7 --at-once" PEERS=${PEERS:-compile}
fi

# part NAME SECONDS COMMAND…: runs the command for at most so long; what it prints goes to $OUT/NAME.log.
part() {
    name=$1 seconds=$2
    shift 2
    begin=$SECONDS
    timeout --kill-after=5 "$seconds" "$@" > "$OUT/$name.log" 2>&1
    status=$?
    echo "$name: $((SECONDS - begin)) s$([ $status = 0 ] || echo ", FAILED with status $status: $(tail -n 1 "$OUT/$name.log")")"
}

rm -f "$OUT"/{train,inference,checks}.json
# Limits are together 520 s; a benchmark gives up what does not fit into its budget and prints the rest.
part train 280 "$PYTHON" benchmarks/train_step.py $SIZE --dtype=bfloat16 --peers="$PEERS" --budget=255 --json="$OUT/train.json" \
    --cases="${TRAIN:-bert-base-512,bert-base-128,bert-large-512,distilbert-teacher-128,albert-base-128}"
part checks 130 "$PYTHON" benchmarks/gpu_checks.py ${SMALL:+--small --rounds=1} --budget=115 --json="$OUT/checks.json"
part inference 110 "$PYTHON" benchmarks/inference.py $SIZE --dtype=bfloat16 --peers="$PEERS" --budget=85 --json="$OUT/inference.json" \
    --cases="${INFERENCE:-bert-base-1x128,bert-base-32x128,bert-base-32x384,minilm-32x128}"
"$PYTHON" benchmarks/gpu_table.py "$OUT" | tee "$OUT/table.md"
