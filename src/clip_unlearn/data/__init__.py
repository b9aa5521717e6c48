"""Images from wherever they are: folders, tables, Parquet, tar shards and the embedded world, all as one `ImageSet`."""
