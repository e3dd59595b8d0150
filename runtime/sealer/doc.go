// Package sealer turns a GGUF file into a sealed model: tensors re-tiled for
// the kernels, encrypted chunk by chunk, signed by the publisher.
//
// It guarantees that a file under the final name is complete and synced: it is
// written beside it and renamed last. Memory is bounded by the source's header
// and a few chunks, whatever the size of the model. It trusts the publisher's
// signing function and key; the source file is parsed as foreign bytes. It
// refuses, by name, models that the engine would not compute exactly as their files mean
// them (package servable), and values that are no finite numbers.
//
// The command line calls it, where models are published; the agent never does.
package sealer
