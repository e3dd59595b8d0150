package wire

import "github.com/anchorhold/anchorhold/crypto/digest"
import "github.com/anchorhold/anchorhold/crypto/zk/statement"

// Registration is a key on its way to the registry, with the ids of the models whose answers it
// may prove; without any it may prove those of every model.
type Registration struct {
	Record       statement.Record `json:"record"`
	VerifyingKey []byte           `json:"verifying_key"`
	Models       []digest.Digest  `json:"models,omitempty"`
}
