package client

import "time"

// UsableAt says whether the next Acquire, at this time, would be on the connection that is
// kept, and closes that.
func (c *Client) UsableAt(now time.Time) bool {
	l, _ := c.take(now)
	_ = l.close()
	return l != nil
}
