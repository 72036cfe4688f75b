"""Plain torch modules of the image workloads: uint8 images [B, ...] -> logits [B, C]."""
