"""What the student is asked, how it is graded, and how practice for it is written and read back."""
