// Package weights opens a sealed model into the memory budget and serves its tiles: from memory
// when the model fits, and decrypted chunk by chunk from disk when it does not.
//
// Plaintext is in arena regions only, both modes serve the same bytes, memory stays within the
// given budget, and Close wipes. A chunk that was changed on disk is a *chunkseal.Failure that
// names the chunk and the tensor, and nothing of it is served. The package trusts the model key and
// the publisher's identity that it is given. It refuses files that chunkseal refuses, tensors that
// are not whole tiles, and models that do not fit even when streamed, with the figure that they
// need.
//
// The agent opens a model with [Open]; the engine reads tensors through the [Weights].
package weights
