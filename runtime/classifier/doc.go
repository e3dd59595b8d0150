// Package classifier runs small INT8 classifiers, the models whose answers are proven: their
// sealed form, the quantizer of their inputs, and exact integer inference.
//
// After the input quantizer there is only integer arithmetic, with the same result, bit for bit,
// as crypto/zk/intnet's reference, which the circuits prove. The quantizer gives the same
// integers on every machine. Parameters and intermediate values are in arena regions only, and
// are wiped. An inference allocates nothing and takes the same steps whatever the values. The
// package trusts the key and the publisher's identity that it is given, and nothing in a file. It
// refuses a sealed language model, as package weights refuses a sealed classifier.
//
// docs/sealed-format.md specifies the sealed form. The agent serves classifiers with it ([Open]);
// runtime/quantize makes them and runtime/sealer seals them.
package classifier
