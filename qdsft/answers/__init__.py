"""What `qdsft decompose` reads, keeps and writes."""
