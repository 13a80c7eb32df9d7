"""Which texts are alike, by shared words, TF-IDF or embeddings: strings and arrays in, `Matches` out."""
