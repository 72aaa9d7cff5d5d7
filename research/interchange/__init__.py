"""Import and export of Hugging Face checkpoints of BERT, DistilBERT and ALBERT, without loss.

python -m research.interchange import SOURCE RUN_DIR
python -m research.interchange export RUN_DIR TARGET_DIR
"""
