"""The student: a language model that answers prompts, wherever its weights come from."""
