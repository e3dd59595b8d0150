// Package classifier runs small INT8 classifiers, the models whose answers are proven: their
// sealed form, the quantizer of their inputs, and exact integer inference.
//
// It guarantees that behind the input quantizer there is integer arithmetic only, with the
// same result, bit for bit, as crypto/zk/intnet's reference, which the circuits prove; that the
// quantizer gives the same integers on every machine; that parameters and intermediate
// values lie in arena regions only and are wiped; and that an inference allocates nothing
// and takes the same steps whatever the values. It trusts the key and the publisher's
// identity that it is given, nothing in a file. It refuses a sealed
// language model, as package weights refuses a sealed classifier.
//
// docs/sealed-format.md specifies the sealed form. The agent serves classifiers with it;
// runtime/quantize makes them, runtime/sealer seals them.
package classifier
