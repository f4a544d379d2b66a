"""Who writes the practice: any OpenAI-compatible endpoint, the embedded tutor, or a recording."""
