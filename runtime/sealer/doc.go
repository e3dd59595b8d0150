// Package sealer turns a GGUF file into a sealed model: tensors re-tiled for the kernels, encrypted
// chunk by chunk, and signed by the publisher.
//
// A file under the final name is complete and synced: it is written beside that name and renamed
// last. Memory is bounded by the source's header and a few chunks, whatever the size of the model.
// The package trusts the publisher's signing function and key; the source file is parsed as
// foreign bytes. It refuses, by name, models that the engine would not compute exactly as their
// files mean (package servable), and values that are not finite numbers.
//
// The command line calls it where models are published ([Seal], [SealClassifier]); the agent never
// does. The example seals a small model and opens it.
package sealer
