"""The version of this code: of the package, and of what a run records."""

VERSION = '0.2.0'
