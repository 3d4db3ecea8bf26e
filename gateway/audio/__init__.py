"""A carrier's bytes in, legal chunks for the service out. Stages push to the next and finish with the frames; nothing looks back."""
