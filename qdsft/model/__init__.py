"""The base model: device, tokenizer, config, weights, quantization, attention kernel, and access to the Hub."""
