"""Hugging Face checkpoints in and out: BERT, DistilBERT and ALBERT, exactly.

python -m research.interchange import SOURCE RUN_DIR
python -m research.interchange export RUN_DIR TARGET_DIR
"""
