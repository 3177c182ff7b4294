package lab

import "time"

// Node is a real node.
type Node struct{ proc *process }

func (n *Node) stop() { n.proc.stop(5 * time.Second) }
