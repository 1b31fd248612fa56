#!/bin/sh
# Trains demo-sd and demo-ella, in the one order that works, and writes them into ../models. Killed and
# started again it goes on from the last checkpoint; what is finished is passed over.
#
#     sh train.sh FOLDER [PYTHON]
set -eu
work=$1
python=${2:-python}
cd "$(dirname "$0")"
mkdir -p "$work"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
[ -f "$work/spiece.model" ] || "$python" tokenizers_of_words.py --work "$work"
[ -f "$work/autoencoder.json" ] || "$python" train_vae.py --work "$work"
"$python" pretrain_text.py --work "$work" --which clip
"$python" train_unet.py --work "$work"
"$python" pretrain_text.py --work "$work" --which t5
"$python" train_tsc.py --work "$work"
"$python" export.py --work "$work"
