// Package quantize makes INT8 classifiers from floating-point ones: the layers of a model
// (runtime/layers) and a calibration set become a description and parameters, which
// runtime/classifier runs and crypto/zk/circuits proves.
//
// It quantizes after training, with ranges measured on the calibration set: weights symmetrically,
// with a scale for each output; the last layer with a single scale, so that its outputs can be
// compared; values between layers with one scale; inputs with one scale and offset, or with one
// for each feature if features differ much in size. The result of [Convert] passes the checks of
// classifier and intnet, and the same inputs give the same result. [Compare] measures the cost of
// quantization. The package refuses calibration rows that do not fit the model.
//
// Publishers call it before they seal a classifier; the agent never links it.
package quantize
