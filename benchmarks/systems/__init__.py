"""What ``agreement.py`` compares, one file a package that edgedet is held against."""
