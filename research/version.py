"""The version of this code, of the package and of what a run records, and where it stands."""

from pathlib import Path

VERSION = '0.2.0'
ROOT = Path(__file__).parents[1]  # the folder of research/, configs/ and experiments/, from which this code is imported
