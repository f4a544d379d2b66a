"""The process that trains: `python -m errata.training FOLDER`.

It stands apart: it never imports Hydra, and of Errata only `errata.chat`. A second Lightning rank starts by running the
parent's command line again; were that `errata improve`, it would replay the run, paid calls included.
"""
