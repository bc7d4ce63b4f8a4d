"""One file per step, ``vNNNN_<what>.py``, each naming the one before."""
