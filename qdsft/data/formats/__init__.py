"""Read and write the file formats of other projects."""
