"""Power loss: record what a queue node writes, build the disk after a cut at any point, and look what is left."""
