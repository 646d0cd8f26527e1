"""The steps of augmentation: geometric, photometric, mixing, and policies of them; `data/augmentation.py` applies them."""
