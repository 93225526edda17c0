#!/bin/bash
# A Cloud TPU slice: creates it, installs mpt on every host, runs the command on all, and deletes the slice.
# Needs gcloud with a project. RUNS is a bucket's folder, which the slice's service account reads and writes;
# REPOSITORY is the address of mpt's git repository.
set -euo pipefail
NAME=mpt ZONE=${ZONE:-us-east5-b} TYPE=${TYPE:-v6e-16} RUNS=${RUNS:?gs://BUCKET/runs}
REPOSITORY=${REPOSITORY:?the address of a git repository}
everywhere() {
  gcloud compute tpus tpu-vm ssh "$NAME" --zone "$ZONE" --worker all --command "$1"
}
gcloud compute tpus tpu-vm create "$NAME" --zone "$ZONE" --accelerator-type "$TYPE" --version v2-alpha-tpuv6e
trap 'gcloud compute tpus tpu-vm delete "$NAME" --zone "$ZONE" --quiet' EXIT
everywhere "git clone --depth 1 '$REPOSITORY' mpt && python3 -m pip install './mpt[tpu,gcs]'"
everywhere "mpt pretrain mpt_source --out $RUNS/source"
