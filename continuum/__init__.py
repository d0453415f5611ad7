"""A DDFT cell membrane on MPI ranks."""
