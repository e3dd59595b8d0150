// Package weights opens a sealed model into the memory budget and serves its
// tiles: from memory when the model fits, decrypted chunk by chunk from disk
// when it does not.
//
// It guarantees that plaintext lies in arena regions only, that both modes
// serve the same bytes, that memory stays within the budget given, and that
// Close wipes. A chunk that was changed on disk is a *chunkseal.Failure that
// names chunk and tensor, and nothing of it is served. It trusts the model key
// and the publisher's identity that it is given. It refuses files that
// chunkseal refuses, tensors that are not whole tiles, and models that do not
// fit even streamed, with the figure that they need.
//
// The agent opens a model with it; the engine reads tensors through it.
package weights
