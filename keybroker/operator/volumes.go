package operator

import (
	"context"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
)

// Volume is what the broker knows of a guest's volume.
type Volume struct {
	Volume string `json:"volume"`
	// Generation and Mark are the state that was confirmed last.
	Generation uint64        `json:"generation"`
	Mark       digest.Digest `json:"mark,omitzero"`
	// Reset means that the next opening may begin with any state.
	Reset bool `json:"reset,omitempty"`
	// Disputed means that the volume went on from an old copy of a fleet's store: nothing opens it but a reset.
	Disputed bool `json:"disputed,omitempty"`
	// Agent and Lease are whose opening it was, and At is when.
	Agent digest.Digest  `json:"agent,omitzero"`
	Lease digest.LeaseID `json:"lease,omitzero"`
	At    time.Time      `json:"at,omitzero"`
}

// Volumes returns all volumes that guests opened, in the order of their names.
func (c *Client) Volumes(ctx context.Context) ([]Volume, error) {
	return get[[]Volume](ctx, c, "/v1/volumes", nil)
}

// ResetVolume lets the next opening of a volume begin with any state.
func (c *Client) ResetVolume(ctx context.Context, volume string) (Volume, error) {
	return post[Volume](ctx, c, "/v1/volumes/reset/"+volume, nil, nil)
}
