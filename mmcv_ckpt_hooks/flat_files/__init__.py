"""Checkpoints as safetensors files: tensors one after the other, and texts.

Source: https://github.com/huggingface/safetensors#format. Its own library
takes all of a file as bytes in memory, or a local path; here a file is a
stream, in pieces, wherever it lies.
"""
