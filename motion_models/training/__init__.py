"""Training motion models: clips as latents on disk, and the trainer. Plain torch; ComfyUI's part is under ``nodes/``."""
