"""Which right answers stand nearest to an error: encoders, the embedding cache, the FAISS index, the choice."""
