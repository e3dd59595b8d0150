// Package quantize makes INT8 classifiers from floating-point ones: the layers of a model
// (runtime/layers) and a calibration set become a description and parameters that
// runtime/classifier runs and crypto/zk/circuits proves.
//
// It quantizes after training, from ranges that the calibration set shows: weights
// symmetrically, each output with a scale of its own, the last layer with one scale, so
// that its outputs compare; values between layers with one scale; inputs with one scale and
// offset, or one for each feature where features differ much in size. It guarantees that
// what it returns passes classifier's and intnet's checks, and the same result from the
// same inputs. Compare says what quantization cost. It refuses calibration rows that do not
// suit the model.
//
// Publishers call it before they seal a classifier; the agent never links it.
package quantize
