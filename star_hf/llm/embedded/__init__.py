"""The embedded model, a provider in this process: any GGUF file, by OpenVINO."""
